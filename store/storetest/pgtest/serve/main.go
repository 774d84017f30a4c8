// Command serve runs a PostgreSQL of its own on loopback, for trying out a
// fleet: it prints the URL of an empty database, and ends the server and all
// that it holds when its standard input ends.
//
//	go run ./store/storetest/pgtest/serve
package main

import (
	"fmt"
	"io"
	"os"

	"github.com/scopegate/scopegate/store/storetest/pgtest"
)

func main() {
	cluster, err := pgtest.Start()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(cluster.DSN("postgres"))
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := cluster.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
