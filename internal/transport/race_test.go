//go:build race

package transport

// veryLarge is the size of a status that is to be very large. The race detector looks at each byte of
// it, each time that it is copied.
const veryLarge = 12 << 20
