//go:build !linux

// Command fulldisk needs a tmpfs, and so Linux.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "fulldisk: mounts a tmpfs, which only Linux has")
	os.Exit(2)
}
