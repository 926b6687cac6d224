package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// worker visits web again and again. That web isn't there, or not yet, is no
// reason for it to end.
func worker(ctx context.Context) error {
	every, err := time.ParseDuration(setting("EVERY", "2s"))
	if err != nil || every <= 0 {
		return fmt.Errorf("EVERY=%q is no time, such as 2s", setting("EVERY", ""))
	}
	target := "http://" + setting("ADDR", defaultAddr) + "/"
	client := &http.Client{Transport: &http.Transport{}, Timeout: every}
	defer client.CloseIdleConnections()
	fmt.Printf("visiting %s every %s\n", target, every)

	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			fmt.Println("bye")
			return nil
		case <-tick.C:
		}
		begun := time.Now()
		answer, err := visit(ctx, client, target)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			fmt.Printf("no answer: %v; trying again\n", err)
		default:
			fmt.Printf("got %q in %s\n", answer, time.Since(begun).Round(10*time.Microsecond))
		}
	}
}

func visit(ctx context.Context, client *http.Client, target string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		var dial *net.OpError
		var asked *url.Error
		switch {
		case errors.As(err, &dial): // the system's words without the URL around them
			err = dial.Err
		case errors.As(err, &asked):
			err = asked.Err
		}
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 200))
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status %s", resp.Status)
	}
	return strings.TrimSpace(string(body)), nil
}
