package actors

import "time"

// wallNow is the time of day alone, as records and events keep it: a monotonic
// reading would not survive the journal.
func wallNow() time.Time { return time.Now().Round(0) }
