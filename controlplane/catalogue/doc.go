// Package catalogue holds the carriers that ship with the product: by which MX
// hosts, addresses and domains they are known, and with which settings to begin.
// It is a leaf that imports policy only, and pure.
//
// The settings are starting points. None was measured by us and few are published
// by the carriers; each carrier's Origin says where its numbers come from. The
// data is in world.go and japan.go; docs/carriers.md is made from it.
//
// # Layers
//
//	what ships  ──┐
//	              ├─▶ Over ──▶ policy.New ──▶ policy.Set
//	what is stored┘
//
// Shipped carriers are never stored. Over lays the stored resources over them, and
// everybody who makes a policy.Set out of stored resources calls it: who looks at
// resources alone sees what operators gave, who looks at a Set sees what is in
// force. So a local change survives an upgrade, and what was not changed gets the
// newer settings with it.
//
//   - A Carrier resource with the name of a shipped one changes it field by field.
//     What it gives wins, also within limits, per_source, retry and steering; lists
//     and maps are taken whole. A field cannot be given as nothing: to lift a bound,
//     give a high one.
//   - disabled: true leaves a carrier out.
//   - Reputation/default with catalogue: none leaves all of them out.
//   - An MX suffix, network or domain that any other local carrier gives is taken
//     from the shipped one that has it too. Two local ones that give it are an error,
//     as ever.
//
// # While two versions run together
//
// During an upgrade processes with another catalogue work on the same stored policy.
// Each node obeys the settings of its own. Limits on one source are enforced by the
// one node that holds it, and grants are parts of a limit, not numbers, so over all
// sources together no more is sent than the larger of both settings allows. Mail of
// a carrier that a node does not know counts there as that of the default carrier.
//
// Policy may speak of a carrier that only the newer version ships: a throttle on it,
// a route to it. Who writes policy must know the name (Over); who reads policy that
// somebody else has checked need not (OverStored): the carrier counts as one that is
// left out, and the revision holds. Versions before the catalogue refuse such a
// revision and stay with the one before it until they are upgraded, so upgrade all
// processes before policy speaks of shipped carriers.
//
// INVARIANT: the shipped carriers alone are valid policy, and no two of them claim
// the same thing. A name that was shipped once stays (a test holds the list), since
// stored policy may refer to it.
package catalogue
