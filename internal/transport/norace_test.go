//go:build !race

package transport

// veryLarge is the size of a status that is to be very large.
const veryLarge = 60 << 20
