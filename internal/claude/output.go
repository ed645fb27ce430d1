package claude

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"sync"
	"time"
)

const (
	// maxLine bounds a line of output, in bytes. The CLI itself cuts what tools put out.
	maxLine = 32 << 20
	// settleWithin bounds the wait for the transcript. The CLI writes it within some 100 ms.
	settleWithin = 10 * time.Second
	settleEvery  = 10 * time.Millisecond
)

// scan reads the output line by line.
func (p *Process) scan(output *os.File, raw chan<- Line) {
	defer close(raw)
	defer output.Close() //nolint:errcheck // it was only read
	reader := bufio.NewReaderSize(&rest{output, pipeHolds}, 64<<10)
	for {
		text, _, err := readLine(reader)
		if line, ok := parseLine(text); ok {
			p.note(&line)
			raw <- line
		}
		if err != nil {
			return
		}
	}
}

// note ends the input when the turn is over and every message that was given is answered, at once and not when the
// line has settled: the CLI writes the rest of its transcript, which settling waits for, when it ends.
func (p *Process) note(line *Line) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case line.Type == "result":
		p.over = true
	case line.Begins():
		p.over, p.ready = false, true
		p.tell()
	case line.Answers():
		delete(p.open, line.Command)
	}
	if p.over && len(p.open) == 0 {
		p.closed = true
		p.tell()
	}
}

// rest reads a pipe whose deadline may pass before all that is in it has been read, because the reader was busy: it
// goes on for as many bytes as a pipe can hold.
type rest struct {
	pipe *os.File
	left int
}

func (r *rest) Read(into []byte) (int, error) {
	n, err := r.pipe.Read(into)
	if r.left <= 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		return n, err
	}
	if err := r.pipe.SetReadDeadline(time.Now().Add(lateOutput)); err != nil {
		return 0, err
	}
	n, err = r.pipe.Read(into)
	r.left -= n
	_ = r.pipe.SetReadDeadline(time.Now().Add(-lateOutput)) // so that every read counts
	return n, err
}

// readLine reads a line, and returns it without its end, and the size that it has with it. One that is longer than
// maxLine is passed over, as nothing.
func readLine(reader *bufio.Reader) (line []byte, size int64, err error) {
	for over := false; ; {
		part, err := reader.ReadSlice('\n')
		size += int64(len(part))
		if over = over || len(line)+len(part) > maxLine; over {
			line = nil
		} else {
			line = append(line, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return bytes.TrimSpace(line), size, err
		}
	}
}

// settle hands lines on, messages not before the transcript has them, and its copy.
func (p *Process) settle(raw <-chan Line) {
	defer close(p.lines)
	for line := range raw {
		if !line.message() || p.settled(line.UUID) && p.keepAll() == nil {
			p.lines <- line
		}
	}
	<-p.done
	_ = p.transcript.Refresh() // the CLI writes the last of it as it ends
	_ = p.keepAll()            // whoever keeps it knows
}

// keepAll has the transcript kept as far as it has been read.
func (p *Process) keepAll() error {
	if p.keep == nil {
		return nil
	}
	var err error
	p.kept, err = p.transcript.Keep(p.kept, p.keep)
	return err
}

// settled waits until the transcript has a message. It reports false for one that it never will have,
// because the CLI was killed before it wrote it.
func (p *Process) settled(uuid string) bool {
	deadline, tick := time.NewTimer(settleWithin), time.NewTicker(settleEvery)
	defer deadline.Stop()
	defer tick.Stop()
	for ended := false; ; {
		_ = p.transcript.Refresh() // what cannot be read now may be readable at the next tick
		switch {
		case p.transcript.Has(uuid):
			return true
		case ended:
			return p.exit.Code < 128 // an orderly end: it is no message that the transcript keeps
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return true // better twice than never
		case <-p.done:
			ended = true
		}
	}
}

// tail keeps the last bytes that were written to it.
type tail struct {
	mu   sync.Mutex
	keep int
	text []byte
}

func (t *tail) Write(text []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, text...)
	if over := len(t.text) - t.keep; over > 0 {
		t.text = t.text[over:]
	}
	return len(text), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.text))
}
