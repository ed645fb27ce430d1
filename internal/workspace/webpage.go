package workspace

import (
	"context"
	"net/http"
	"strings"
)

// speaksGit asks an address as git does (http-protocol), and fails if the answer says of itself that it is something
// else. Git was content already, so an answer that git got otherwise, such as with a token, is none of our business.
func (r *mirror) speaksGit(ctx context.Context, from address) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(from.text, "/")+"/info/refs?service=git-upload-pack", nil)
	if err != nil {
		return err
	}
	request.Header.Set("User-Agent", "git/berth") // some hosts tell by the name whether to answer with a page
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil //nolint:nilerr // git did reach it
	}
	defer func() { _ = answer.Body.Close() }() // nothing is read
	kind, _, _ := strings.Cut(answer.Header.Get("Content-Type"), ";")
	if answer.StatusCode == http.StatusOK && strings.TrimSpace(strings.ToLower(kind)) == "text/html" {
		return failed("cannot clone %s: a web page is there, and no git repository; name the address that git clones", from.text)
	}
	return nil
}
