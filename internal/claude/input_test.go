package claude

// CloseInput ends the input of a CLI that does not say when it has answered.
func (p *Process) CloseInput() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.tell()
}
