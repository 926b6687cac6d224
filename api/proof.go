package api

// ProveArgument is the hidden command by which a binary proves that it could take
// over from a manager: with the path of a [Proof] behind it, it prints a [Proved].
const ProveArgument = "__prove"

// Proof is what a binary that is to take over is asked: whether it knows this.
type Proof struct {
	Format int   `json:"format"` // of the state on disk
	State  State `json:"state"`  // a copy of all registrations
}

// Proved is the answer of one that does.
type Proved struct {
	Syspulse string `json:"syspulse"` // ProvedWord
	Version  string `json:"version"`
}

// ProvedWord is in a Proved, so that no other program's output is taken for one.
const ProvedWord = "this binary can take over"
