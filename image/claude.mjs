// Fetches Claude Code's program for Linux with npm, sees that it is the one that package-lock.json pins, and unpacks it.
//
//   node claude.mjs amd64|arm64 DIRECTORY
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync } from "node:fs";

const [architecture, directory] = process.argv.slice(2);
const cpu = { amd64: "x64", arm64: "arm64" }[architecture];
if (!cpu) {
	throw new Error(`Claude Code has no program for ${architecture}; build with --platform linux/amd64 or linux/arm64`);
}
const name = `@anthropic-ai/claude-code-linux-${cpu}`;
const pinned = JSON.parse(readFileSync("package-lock.json")).packages[`node_modules/${name}`];
const [{ filename }] = JSON.parse(execFileSync("npm", ["pack", "--json", `${name}@${pinned.version}`], { encoding: "utf8" }));
const integrity = "sha512-" + createHash("sha512").update(readFileSync(filename)).digest("base64");
if (integrity !== pinned.integrity) {
	throw new Error(`${name}@${pinned.version} is ${integrity}; package-lock.json has ${pinned.integrity}`);
}
mkdirSync(directory, { recursive: true });
execFileSync("tar", ["-xzf", filename, "-C", directory, "--strip-components=1", "--no-same-owner", "package/claude"]);
