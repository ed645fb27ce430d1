# The agent's image:
#
#   docker build -t claude-code-agent:latest .
#
# The bases are exact releases; --build-arg BASE=… (and GO_BASE, NODE_BASE) takes a digest or a mirror in their place. With
# --platform linux/arm64 or linux/amd64 it is for that architecture, whatever this machine's is: only the Debian packages are
# installed on the other one.
ARG BASE=debian:12.11-slim
ARG GO_BASE=golang:1.26.8-bookworm
ARG NODE_BASE=node:24.21.0-bookworm-slim

# The agent and the program that writes the list of what is in the image.
FROM --platform=$BUILDPLATFORM ${GO_BASE} AS programs
WORKDIR /src
COPY go.mod go.sum ./
COPY cmd/berthd cmd/berthd
COPY image image
COPY internal internal
ARG TARGETOS TARGETARCH VERSION=devel
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
	CGO_ENABLED=0 go build -trimpath -o /out/bill ./image/bill && \
	CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -ldflags "-s -w -X main.release=$VERSION" -o /out/berthd ./cmd/berthd

# Claude Code's own program for Linux, as package-lock.json pins it. Node.js is only needed to get it.
FROM --platform=$BUILDPLATFORM ${NODE_BASE} AS claude
WORKDIR /src
COPY package-lock.json image/claude.mjs ./
ARG TARGETARCH
RUN node claude.mjs "$TARGETARCH" /out

FROM ${BASE} AS root
# What a session's tools and git need. /usr/share/doc keeps the licences.
RUN apt-get update && \
	DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates gh git ripgrep && \
	apt-get clean && \
	find /usr/share/doc -type f ! -name copyright -delete && find /usr/share/doc -type l -delete && find /usr/share/doc -type d -empty -delete && \
	rm -rf /usr/share/man /usr/share/info /usr/share/locale /usr/share/zoneinfo/right /usr/share/bash-completion /usr/share/zsh /usr/share/fish \
		/var/lib/apt/lists/* /var/cache/* /var/log/* /tmp/* && \
	# Only root gets past /data, and with it to the volume. /work and /tmp are local disk: on Fargate a volume has the mode that its
	# directory has in the image. What a session leaves in /tmp, another one can neither list nor, not knowing the name, find.
	install -d -m 0700 /data && install -d -m 0755 /data/volume && \
	install -d -m 0711 /work && chmod 1733 /tmp && \
	install -d -m 0755 /var/lib/amazon/ssm /var/log/amazon/ssm
COPY --from=claude /out/claude /usr/local/bin/claude
COPY --from=programs /out/berthd /usr/local/bin/berthd

FROM programs AS bill
COPY --from=root /var/lib/dpkg/status /root/status
COPY --from=root /etc/os-release /root/os-release
COPY package-lock.json ./
ARG TARGETARCH
RUN /out/bill -cpu "$TARGETARCH" -dpkg /root/status -release /root/os-release -go /out/berthd -npm package-lock.json > /out/bill.cdx.json

FROM root
COPY --from=bill /out/bill.cdx.json /usr/share/berth/bill.cdx.json
ENV BERTH_CLAUDE=/usr/local/bin/claude \
	BERTH_DATA=/data/volume \
	BERTH_WORK=/work \
	DISABLE_AUTOUPDATER=1 \
	LANG=C.UTF-8
VOLUME ["/work", "/tmp", "/var/lib/amazon/ssm", "/var/log/amazon/ssm"]
WORKDIR /
# Root, so that each session can have a user of its own; the agent keeps what rights that takes and sessions get none.
USER 0
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 CMD ["/usr/local/bin/berthd", "health"]
ENTRYPOINT ["/usr/local/bin/berthd"]
ARG VERSION=devel
ARG REVISION=unknown
LABEL org.opencontainers.image.title="claude-code-agent" \
	org.opencontainers.image.description="An always-on agent that runs Claude Code sessions" \
	org.opencontainers.image.licenses="Apache-2.0" \
	org.opencontainers.image.version="$VERSION" \
	org.opencontainers.image.revision="$REVISION"
