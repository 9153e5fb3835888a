// Package top has the command that watches the cluster or a node.
//
// top.go looks, live.go runs the view on a terminal, view.go draws it. The view is
// a state machine without a terminal in it: looks and keys in, text out.
package top
