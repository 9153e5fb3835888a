// Package manifest reads and writes policy resources as YAML documents:
//
//	kind: Route
//	name: sink
//	spec: {domains: ["*"], hosts: ["127.0.0.1:2526"]}
//
// Reading is strict (package strict): what is not understood is an error with
// its place. It checks shape only; whether the resources make sense together is
// for package policy, whose problems Locate can place in the file.
//
// Writing hides secrets: a listing can be applied again, and the store keeps
// the secrets that it leaves out.
package manifest
