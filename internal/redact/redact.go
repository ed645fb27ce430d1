// Package redact keeps secrets out of logs.
//
// A secret is also found where it is encoded as base64, alone or within other bytes, in hexadecimal digits, for a URL,
// or as a string of JSON or Go. It is not found where it is broken up, as base64 with line breaks is, or compressed.
package redact

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Mark stands where a secret was.
const Mark = "[redacted]"

// minSecret is how many bytes a secret has at least. A shorter one would be found where it is none.
const minSecret = 8

// Text returns text with every secret in it replaced by Mark, also those that are encoded. Secrets of fewer than 8
// bytes are ignored, and so are those that Mark contains.
func Text(text string, secrets []string) string { return compile(secrets).redact(text) }

// matcher finds secrets in one pass over a text.
type matcher struct {
	seen    [2048]uint32        // a bit for each hash of the first bytes of a form: most places are ruled out by it
	forms   map[uint32][]string // by their first bytes; the longest first
	figures bool                // a number, a time or a duration may contain a secret
}

const firstBytes = 4

// compile makes a matcher of secrets.
func compile(secrets []string) *matcher {
	m := &matcher{forms: map[uint32][]string{}}
	for _, secret := range secrets {
		if len(secret) < minSecret || strings.Contains(Mark, secret) {
			continue
		}
		m.figures = m.figures || strings.Trim(secret, "0123456789+-.:eTZhmsµun ") == ""
		for _, form := range encodings(secret) {
			first := binary.LittleEndian.Uint32([]byte(form[:firstBytes]))
			if !slices.Contains(m.forms[first], form) {
				m.forms[first] = append(m.forms[first], form)
			}
			word, bit := slot(first)
			m.seen[word] |= bit
		}
	}
	for _, forms := range m.forms {
		slices.SortFunc(forms, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	}
	return m
}

func slot(first uint32) (word, bit uint32) {
	hash := first * 0x9E3779B1 >> 16 // Fibonacci hashing: 2³² over the golden ratio
	return hash / 32, 1 << (hash % 32)
}

// match returns the length of the longest form that a text begins with; 0 if there is none.
func (m *matcher) match(text string) int {
	first := uint32(text[0]) | uint32(text[1])<<8 | uint32(text[2])<<16 | uint32(text[3])<<24
	if word, bit := slot(first); m.seen[word]&bit == 0 {
		return 0
	}
	for _, form := range m.forms[first] {
		if strings.HasPrefix(text, form) {
			return len(form)
		}
	}
	return 0
}

// found reports whether there is a secret in a text.
func (m *matcher) found(text string) bool {
	for at := 0; at+minSecret <= len(text); at++ {
		if m.match(text[at:]) > 0 {
			return true
		}
	}
	return false
}

// redact returns a text without secrets; where several overlap, one Mark stands for all.
func (m *matcher) redact(text string) string {
	if len(m.forms) == 0 || !m.found(text) {
		return text
	}
	var out strings.Builder
	end := 0 // of the secrets so far; what follows it is not in out yet
	for at := 0; at+minSecret <= len(text); at++ {
		length := m.match(text[at:])
		if length == 0 {
			continue
		}
		if at >= end {
			out.WriteString(text[end:at])
			out.WriteString(Mark)
		}
		end = max(end, at+length)
	}
	out.WriteString(text[end:])
	if redacted := out.String(); !m.found(redacted) {
		return redacted
	}
	return Mark // a secret that has part of Mark in it came about
}

// encodings are the forms that a secret is looked for in.
func encodings(secret string) []string {
	forms := []string{secret, hex.EncodeToString([]byte(secret)), strings.ToUpper(hex.EncodeToString([]byte(secret)))}
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before := range 3 {
			forms = append(forms, within(encoding, secret, before))
		}
	}
	for _, escaped := range []string{url.QueryEscape(secret), url.PathEscape(secret), percent(secret)} {
		forms = append(forms, escaped, lowerHex(escaped))
	}
	for _, quoted := range []string{strconv.Quote(secret), strconv.QuoteToASCII(secret), quoteJSON(secret, true), quoteJSON(secret, false)} {
		forms = append(forms, quoted[1:len(quoted)-1])
	}
	return slices.Compact(slices.Sorted(slices.Values(forms)))
}

// within is what of a secret's base64 does not depend on what is around it, if so many bytes modulo 3 precede it.
func within(encoding *base64.Encoding, secret string, before int) string {
	encoded := encoding.EncodeToString(append(make([]byte, before), secret...))
	return encoded[(8*before+5)/6 : 8*(before+len(secret))/6]
}

// percent escapes all but letters and digits.
func percent(secret string) string {
	var escaped strings.Builder
	for _, b := range []byte(secret) {
		if 'a' <= b|0x20 && b|0x20 <= 'z' || '0' <= b && b <= '9' {
			escaped.WriteByte(b)
		} else {
			fmt.Fprintf(&escaped, "%%%02X", b)
		}
	}
	return escaped.String()
}

// lowerHex writes %2F as %2f.
func lowerHex(escaped string) string {
	lower := []byte(escaped)
	for at := 0; at+2 < len(lower); at++ {
		if lower[at] == '%' {
			copy(lower[at+1:], strings.ToLower(escaped[at+1:at+3]))
		}
	}
	return string(lower)
}

func quoteJSON(secret string, forHTML bool) string {
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(forHTML)
	if err := encoder.Encode(secret); err != nil {
		panic(err) // a string has a form in JSON
	}
	return strings.TrimSuffix(text.String(), "\n")
}

// cache keeps the matcher of the secrets that were asked for last.
type cache struct {
	mu      sync.Mutex
	secrets []string
	matcher *matcher
}

func (c *cache) of(secrets []string) *matcher {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.matcher == nil || !slices.Equal(secrets, c.secrets) {
		c.secrets, c.matcher = slices.Clone(secrets), compile(secrets)
	}
	return c.matcher
}
