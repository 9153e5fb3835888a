// Package transfer hands deliveries to another node: when this one drains, and
// when their pool has no source here. It owns no goroutine: Send is called by
// who wants to be rid of deliveries, Run by the node, Handler by its HTTP server.
//
// It never decides what is handed over, nor to whom, and never sends mail.
//
// Read in this order: this page, sender.go, receiver.go, resolve.go, wire.go;
// spool/transfer.go, transfer_receive.go and transfer_parcel.go are what it does
// on disk.
//
// # What must be true
//
// A delivery is active on at most one node, and never on none for good. Active
// means that a page of its spool shows it, so that it may be attempted. Content
// and all that is known of it arrive unchanged. (design.md 5.2, 5.4.)
//
// # The protocol
//
// A transfer has the number n, chosen by the sender A, used once, and names both
// spools by their id and not by the names of their nodes: a node that was rebuilt
// under its old name is another.
//
//	1  A  writes offer n: to which spool, which deliveries           durable
//	2  A  sends the parcel
//	3  B  writes deliveries, messages, job orders and receipt n       durable, one batch
//	4  B  answers: stored
//	5  A  deletes the deliveries and offer n, notes where they went   durable, one batch
//	6  A  tells its floor: no transfer below it is open
//	      B forgets the receipts below                                durable
//
// Whenever A is not certain that B has them (no answer, another answer, a
// restart), it asks for n, again and again. If B has receipt n, it says so and A
// goes on at 5. If not, B first writes a fence for n, durably, and then says
// fenced; A removes offer n, and the deliveries are active at A again. B decides
// on the one goroutine that commits, so that a parcel and a question about it
// come one after the other. A parcel is never sent a second time: what comes
// back is offered under a new number.
//
// # Each crash
//
//	before 1 is durable: nothing was sent; they are active at A.
//	after 1, before 3: A finds offer n at its start, hides its deliveries from
//	   the beginning, and asks. B does not know n, fences it; active at A again.
//	   B lost nothing by its crash, since nothing was durable there.
//	B crashes around 3: the batch is whole or not there. Whole, it has the
//	   receipt. Not there, the answer to the question is a fence.
//	after 3, before 5: active at B alone: at A they are offered. A asks, hears
//	   of the receipt, deletes. It does not matter if B has sent them, lost them
//	   to a cancel, or handed them on to C meanwhile: the receipt stays.
//	after 5, before 6: gone from A. B keeps a receipt too long, until A speaks
//	   to it again. At most spool.MaxTransfers for each sender.
//	during 6: telling a floor twice, or an older one, changes nothing.
//
// # Late and doubled requests
//
//	a parcel again, after it was stored: B has the receipt, stores nothing and
//	   says had; that is 4 again.
//	a parcel after the question: fenced, refused.
//	a parcel after the floor has passed it: refused, since its number is below
//	   the floor, which is why B can forget the receipt. A has resolved n before
//	   it told the floor, and does not listen to answers about n any more.
//	an old floor: floors never fall.
//	a refusal (busy, full, malformed): is no answer to what became of n, since a
//	   copy of the request may come later and be taken. Only a fence is.
//
// # Who is at the other end
//
// B answers only for its own spool id (421 to all else). If the node of B's name
// has another disk now, nobody can say what became of n: the deliveries stay
// offered and are shown, and when an operator knows that B's disk is gone,
// Reclaim makes them active here. So does a disk that was set back to an older
// state: it may know an offer that was resolved in its other life, and its
// numbers may come again. Before it offers anything A asks B for the highest
// number that B has seen of it, and goes on above; and of a number below the
// floor B says forgotten, upon which A does nothing by itself.
//
// A delivery can come back (A to B to A) while A does not know yet that B had
// it. A refuses it then, because it is offered at A (409); B asks, is told fenced,
// and tries later.
//
// # Orders
//
// What was ordered for a job (pause, rate, cancel) travels in the parcel; the
// newer order wins, and a cancel over everything. Holds do not travel, since one
// that was released could come back: they are made on each node by the control
// plane. But the parcel names those that keep any of it from going out here, and
// the receiver refuses it unless each of them is covered by one of its own. So
// mail that is held on one node only stays on that node.
//
// Cancels and expiries of a scope are remembered by each node for a week after
// they are through (spool.PastRetention), and held against what arrives: it ends
// there at once. So a delivery that was between two nodes when both carried out
// the order cannot slip through: whichever node takes it after its own part of
// the order knows the order. One that is offered when its node is told is listed
// as too late, as one in flight is, and if it left, the order is sent after it
// (SendOrder).
//
// # Bounds
//
// A parcel has about Options.ParcelBytes of content, or one message, and at most
// spool.MaxTransferDeliveries; a spool has at most spool.MaxTransfers open. The
// receiver keeps at most Options.MaxReceiving of parcels in memory and answers
// 503 beyond; it takes nothing while its disk is low or it drains.
package transfer
