// Package sink is a receiving SMTP server for tests, the demo and benchmarks.
// It shares no code with the product, so that what it counts proves something:
// its own reader, its own dot-unstuffing, its own strict idea of the end of
// data. It keeps nothing; each message is handed to Options.Message.
package sink
