package supervision

// What checks have shown. Like all observations these name the incarnation they
// are about and are ignored when that is no longer the current one.
type (
	// Probed: its health has changed.
	Probed struct {
		Incarnation string
		Healthy     bool
		Reason      string // why it isn't healthy, for people
	}
	// BecameReady: it does what it was started for.
	BecameReady struct {
		Incarnation string
		How         string // what showed it, for people
	}
)

func (in Probed) apply(*Machine)      {}
func (in BecameReady) apply(*Machine) {}
