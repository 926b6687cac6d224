package client

import "time"

// SetPatience is for tests of what happens once it has run out.
func (c *Client) SetPatience(d time.Duration) { c.patience = d }
