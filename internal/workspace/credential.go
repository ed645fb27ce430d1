package workspace

import (
	"fmt"
	"net/url"
	"os"
	"strings"
)

// credential returns the user and the token for an address; found tells whether there is a token. Only https keeps a
// token from everybody on the way.
func (m *Mirrors) credential(to address) (user, token string, found bool) {
	if to.kind != https || m.config.Credential == nil {
		return "", "", false
	}
	parsed, err := url.Parse(to.text)
	if err != nil {
		return "", "", false
	}
	user, token = m.config.Credential(parsed.Host)
	if user == "" {
		user = "x-access-token" // what GitHub takes with tokens of every kind
	}
	return user, token, token != "" && !strings.ContainsAny(user+token, "\r\n\x00")
}

// withCredential hands the token for an address to one run of git: through a pipe that it inherits. So it is in no argument,
// no variable and no file, where other processes could find it. Git asks for it only if the host wants one, and only
// for that host, wherever it is sent on to.
func (m *Mirrors) withCredential(g git, to address) (with git, done func(), err error) {
	user, token, found := m.credential(to)
	if !found {
		return g, func() {}, nil
	}
	parsed, err := url.Parse(to.text)
	if err != nil {
		return g, nil, err
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return g, nil, err
	}
	_, err = fmt.Fprintf(writer, "username=%s\npassword=%s\n", user, token)
	_ = writer.Close() // of a pipe
	if err != nil {
		_ = reader.Close() // of a pipe
		return g, nil, fmt.Errorf("cannot hand the token for %s to git: %w", parsed.Host, err)
	}
	fd := 3 + len(g.files)
	g.files = append(g.files[:len(g.files):len(g.files)], reader)
	g.config = append(g.config[:len(g.config):len(g.config)],
		fmt.Sprintf(`credential.https://%s.helper=!f() { test "$1" = get && cat <&%d; }; f`, parsed.Host, fd))
	return g, func() { _ = reader.Close() }, nil // of a pipe
}
