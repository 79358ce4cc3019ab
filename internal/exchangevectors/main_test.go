package main

import (
	"bytes"
	"os"
	"testing"
)

// The file in the tree is what the generator writes: no one has changed it by hand.
func TestVectorsAreGenerated(t *testing.T) {
	var b bytes.Buffer
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("../../testdata/exchange-v1.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), want) {
		t.Error("testdata/exchange-v1.json is not what go run ./internal/exchangevectors writes")
	}
}
