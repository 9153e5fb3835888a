// Package doctor has the command that looks for what carriers will not like about
// a domain. It gathers what policy says and what DNS shows; the checks are package
// reputation/doctor's.
package doctor
