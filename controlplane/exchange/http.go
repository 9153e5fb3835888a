package exchange

// The exchange over HTTP, on the peer address of a control plane process: POST
// Path with a report as the body (ContentType) gives 200 and an answer. All
// other answers are problem documents (RFC 9457):
//
//	400  the report cannot be read
//	409  the node is not registered by that lease, or its name belongs to another
//	     node id: register again, or refuse to start
//	413  it is larger than MaxWire
//	421  this process does not lead; LeaderHeader names the one that does,
//	     if it is known: ask there (RFC 9110 15.5.20)
//	426  the versions do not understand each other
//	429  the node's report before is still being answered
//	503  this process may not answer at the moment: its own lease is in doubt,
//	     or it has not read everything yet; try again at the next interval
const (
	// Path is where the leader takes reports.
	Path = "/v1/exchange"
	// LeaderHeader is set with a 421 to the leader's address, "host:port".
	LeaderHeader = "Hikyaku-Leader"
)
