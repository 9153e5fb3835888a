// Package bench asks how fast it is and whether it survives: end-to-end
// figures beside Postfix in the same run, the backlog larger than memory, and
// kill -9 under load. Nothing imports it but tools.
//
// Figures live in benchmarks and are read as ratios against a peer of the same
// run; no test fails for being slow.
package bench
