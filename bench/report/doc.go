// Package report is what is left of a benchmark: a JSON file for programs, one
// HTML page for people, and the comparison of two of them.
//
// The JSON is the truth and the page is drawn from it, so that an old report
// can be drawn again. Its schema has a number (Schema); Read refuses a newer
// one, and fields that it does not know: a figure that is silently dropped is a
// figure that misleads. Units are in the field names: _ns, _bytes, _per_second;
// times on an axis are seconds since the start of the run.
//
// The page is one file that asks the network for nothing and works from a disk.
// Plots are SVG made here, with their labels as HTML beside them: so text keeps
// its size on a telephone and on paper, follows the light or dark scheme, and a
// browser can be asked whether labels overlap (page_test.go does). A charting
// library in the page (uPlot was weighed) draws on a canvas, where none of that
// holds; what it has more, zooming, is left to the JSON. The page's script only
// shows the values under the pointer; without it the page is complete.
//
// Compare refuses runs of unlike machines or modes: a ratio between those says
// nothing about the program.
//
// Read report.go first, then page.go.
package report
