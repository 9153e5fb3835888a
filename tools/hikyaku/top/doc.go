// Package top has the command that watches the cluster or a node.
//
// top.go looks, view.go draws; package screen runs the view on a terminal.
package top
