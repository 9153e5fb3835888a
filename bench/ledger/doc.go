// Package ledger proves that nothing is lost: both sides number what they saw,
// the injector each recipient it was promised (250, 202), the receiver each
// recipient it took, and Balance compares. Numbers are small integers, so ten
// million fit in memory; they travel in the recipient's local part.
//
// It imports nothing of the product.
package ledger
