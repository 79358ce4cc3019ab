package main_test

import (
	"testing"

	"github.com/sealhttp/sealhttp/examples/internal/eventstest"
)

func TestProgram(t *testing.T) { eventstest.Run(t) }
