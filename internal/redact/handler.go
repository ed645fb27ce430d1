package redact

import (
	"context"
	"encoding"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Handler makes a handler that passes records on to inner without any secret in them: not in the message, nor in
// names, values and groups of attributes, however deep. A value that is no text, and has a secret when it is rendered,
// becomes the text of it. secrets is asked for each record, also for the attributes that a logger had before a secret
// was known; it may be called at the same time, and what it returns must not change.
func Handler(inner slog.Handler, secrets func() []string) slog.Handler {
	return &handler{root: inner, secrets: secrets, cache: &cache{}}
}

type handler struct {
	root    slog.Handler
	secrets func() []string
	cache   *cache // shared by all that come of one Handler
	with    []step // since root
	derived atomic.Pointer[derived]
}

// step is a call of WithAttrs or WithGroup.
type step struct {
	group string
	attrs []slog.Attr
}

// derived is root after all steps, without the secrets of a matcher.
type derived struct {
	matcher *matcher
	handler slog.Handler
}

// Enabled implements slog.Handler.
func (h *handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.root.Enabled(ctx, level)
}

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if len(attrs) == 0 {
		return h
	}
	return h.after(step{attrs: attrs})
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return h.after(step{group: name})
}

func (h *handler) after(s step) slog.Handler {
	return &handler{root: h.root, secrets: h.secrets, cache: h.cache, with: append(slices.Clip(h.with), s)}
}

// Handle implements slog.Handler.
func (h *handler) Handle(ctx context.Context, record slog.Record) error {
	m := h.cache.of(h.secrets())
	inner := h.inner(m)
	if len(m.forms) == 0 {
		return inner.Handle(ctx, record)
	}
	message, clean := m.redact(record.Message), true
	record.Attrs(func(attr slog.Attr) bool {
		_, changed := m.attr(attr)
		clean = !changed
		return clean
	})
	if clean && message == record.Message {
		return inner.Handle(ctx, record)
	}
	redacted := slog.NewRecord(record.Time, record.Level, message, record.PC)
	record.Attrs(func(attr slog.Attr) bool {
		attr, _ = m.attr(attr)
		redacted.AddAttrs(attr)
		return true
	})
	return inner.Handle(ctx, redacted)
}

// inner is root after all steps.
func (h *handler) inner(m *matcher) slog.Handler {
	if d := h.derived.Load(); d != nil && d.matcher == m {
		return d.handler
	}
	inner := h.root
	for _, s := range h.with {
		if s.attrs == nil {
			inner = inner.WithGroup(m.redact(s.group))
			continue
		}
		attrs := make([]slog.Attr, len(s.attrs))
		for number, attr := range s.attrs {
			attrs[number], _ = m.attr(attr)
		}
		inner = inner.WithAttrs(attrs)
	}
	h.derived.Store(&derived{m, inner})
	return inner
}

// attr returns an attribute without secrets, and whether it is another one.
func (m *matcher) attr(attr slog.Attr) (slog.Attr, bool) {
	if len(m.forms) == 0 {
		return attr, false
	}
	key := m.redact(attr.Key)
	value, changed := m.value(attr.Value)
	return slog.Attr{Key: key, Value: value}, changed || key != attr.Key
}

func (m *matcher) value(value slog.Value) (slog.Value, bool) {
	switch value.Kind() {
	case slog.KindString:
		text := value.String()
		redacted := m.redact(text)
		return slog.StringValue(redacted), redacted != text
	case slog.KindGroup:
		return m.group(value)
	case slog.KindLogValuer:
		// What it is asked for now is what is passed on: it may say something else the next time.
		resolved, _ := m.value(value.Resolve())
		return resolved, true
	case slog.KindAny:
		return m.any(value)
	case slog.KindBool:
		return value, false
	default:
		return m.figure(value)
	}
}

func (m *matcher) group(value slog.Value) (slog.Value, bool) {
	attrs, anyChanged := value.Group(), false
	for number, attr := range attrs {
		redacted, changed := m.attr(attr)
		if !changed {
			continue
		}
		if !anyChanged {
			attrs, anyChanged = slices.Clone(attrs), true // the caller's is left as it is
		}
		attrs[number] = redacted
	}
	if !anyChanged {
		return value, false
	}
	return slog.GroupValue(attrs...), true
}

// figure sees to numbers, times and durations: a secret may consist of digits.
func (m *matcher) figure(value slog.Value) (slog.Value, bool) {
	if !m.figures {
		return value, false
	}
	texts := []string{value.String()}
	switch value.Kind() {
	case slog.KindDuration:
		texts = append(texts, strconv.FormatInt(int64(value.Duration()), 10))
	case slog.KindTime:
		texts = append(texts, value.Time().Format(time.RFC3339Nano))
	case slog.KindFloat64:
		texts = append(texts, strconv.FormatFloat(value.Float64(), 'f', -1, 64))
	default: // there is one way to write it
	}
	for _, text := range texts {
		if m.found(text) {
			return slog.StringValue(m.redact(text)), true
		}
	}
	return value, false
}

// any sees to errors, Stringers, structs, maps and whatever else is rendered by the handler.
func (m *matcher) any(value slog.Value) (slog.Value, bool) {
	for _, text := range render(value.Any()) {
		if m.found(text) {
			return slog.StringValue(m.redact(text)), true
		}
	}
	return value, false
}

// render writes a value in the ways in which handlers may.
func render(value any) (texts []string) {
	try := func(write func() string) {
		// A method of the value's that panics must not end the program for want of a log line.
		defer func() {
			if problem := recover(); problem != nil {
				texts = append(texts, fmt.Sprint(problem))
			}
		}()
		texts = append(texts, write())
	}
	try(func() string { return fmt.Sprintf("%+v", value) })
	if bytes := reflect.ValueOf(value); bytes.Kind() == reflect.Slice && bytes.Type().Elem().Kind() == reflect.Uint8 {
		try(func() string { return string(bytes.Bytes()) })
	}
	if text, is := value.(encoding.TextMarshaler); is {
		try(func() string { return said(text.MarshalText()) })
	}
	if err, is := value.(error); is {
		try(err.Error) // %+v may say something else
	}
	try(func() string {
		var text strings.Builder
		encoder := json.NewEncoder(&text)
		encoder.SetEscapeHTML(false) // so that what is escaped once already is recognised
		err := encoder.Encode(value)
		return said([]byte(text.String()), err)
	})
	return texts
}

func said(text []byte, err error) string {
	if err != nil {
		return err.Error()
	}
	return string(text)
}
