//go:build race

package integration_test

// raceDetector says that a process's memory is more the detector's than its own.
const raceDetector = true
