package main

import (
	"os"
	_ "time/tzdata" // send windows name time zones; the machine may have no zone files
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
