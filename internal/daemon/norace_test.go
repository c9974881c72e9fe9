//go:build !race

package daemon_test

// oneIn is how many cells of a matrix there are to each that is tried.
const oneIn = 1
