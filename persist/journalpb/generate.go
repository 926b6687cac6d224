// Package journalpb holds the messages that the journal is written in,
// generated from journal.proto.
//
// To make them again after a change of journal.proto: install protoc (Debian:
// apt-get install protobuf-compiler; macOS: brew install protobuf) and run
//
//	go generate ./persist/journalpb
//
// The version of protoc-gen-go is the one that go.mod names for the protobuf
// runtime. A test of this package fails while the generated file is stale.
package journalpb

//go:generate go build -o protoc-gen-go google.golang.org/protobuf/cmd/protoc-gen-go
//go:generate protoc --plugin=./protoc-gen-go --go_out=. --go_opt=paths=source_relative journal.proto
//go:generate rm protoc-gen-go
