//go:build race

package main

// raced says that all programs here are slowed down by the race detector.
const raced = true
