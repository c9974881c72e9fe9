//go:build race

package daemon_test

// oneIn is how many cells of a matrix there are to each that is tried. The race detector makes them slow,
// and finds in a part of them what there is to find.
const oneIn = 3
