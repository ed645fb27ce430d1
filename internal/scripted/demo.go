package scripted

// Demo returns the scripts of the demonstration: they answer any prompt.
func Demo() []Script {
	return []Script{{Name: "demo", Steps: []Step{
		Text("I am a scripted stand-in, not a real model. You asked: {{prompt.line}}"),
	}}}
}
