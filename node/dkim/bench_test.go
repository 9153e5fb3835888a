package dkim_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"slices"
	"testing"
	"time"

	msgauth "github.com/emersion/go-msgauth/dkim"

	"hikyaku/controlplane/policy"
	"hikyaku/node/dkim"
)

// kibibytes4 is a message of 4 KiB in lines of 70 bytes.
func kibibytes4(line string) []byte {
	b := []byte("Received: from client.example by mx.example with ESMTP id 01jd; Sun, 22 Nov 2026 08:00:00 +0000\r\n" +
		header + "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n\r\n")
	for len(b) < 4096 {
		b = append(b, line...)
	}
	return b
}

const (
	cleanLine = "The quick brown fox jumps over the lazy dog and runs away from here.\r\n"
	dirtyLine = "    <td  align=\"left\">\tThe quick  brown fox </td>                      \r\n"
)

// BenchmarkSign shows what signing a message of 4 KiB costs beside the
// signature itself, measured in turns with it. The signature itself is the
// SHA-256 hash over the content and the operation with the private key;
// overhead-% over both is what must stay under 15. Beside-key-% compares with
// the private key alone.
func BenchmarkSign(b *testing.B) {
	for _, kind := range []string{dkim.RSA2048, dkim.Ed25519} {
		pemText, _, err := dkim.Generate(kind)
		if err != nil {
			b.Fatal(err)
		}
		key, err := dkim.ParseKey([]byte(pemText))
		if err != nil {
			b.Fatal(err)
		}
		s, errs := dkim.NewSigners(set(&policy.SigningKey{Domain: "example.com", Selector: "s", PrivateKey: policy.NewSecret(pemText)}), nil)
		if errs != nil {
			b.Fatal(errs)
		}
		clean, dirty := kibibytes4(cleanLine), kibibytes4(dirtyLine)
		var dst []byte
		ours := func(raw []byte) func() {
			return func() { dst, _ = s.AppendSignature(dst[:0], "example.com", signedAt, raw) }
		}
		b.Run(kind+"/ours/clean", func(b *testing.B) { against(b, key, len(clean), ours(clean)) })
		b.Run(kind+"/ours/dirty", func(b *testing.B) { against(b, key, len(clean)-len(clean)/3, ours(dirty)) })
		b.Run(kind+"/msgauth/clean", func(b *testing.B) { against(b, key, len(clean), func() { signMsgauth(b, key, clean) }) })
	}
}

// against runs sign and the bare signature in turns, so that both see the same
// state of the machine, and compares the medians.
func against(b *testing.B, key crypto.Signer, size int, sign func()) {
	b.ReportAllocs()
	content := make([]byte, size+600) // canonical header fields are hashed too
	var full, hashed, signed []time.Duration
	for b.Loop() {
		t0 := time.Now()
		sign()
		t1 := time.Now()
		digest := sha256.Sum256(content)
		t2 := time.Now()
		if _, err := key.Sign(rand.Reader, digest[:], hashOf(key)); err != nil {
			b.Fatal(err)
		}
		full, hashed, signed = append(full, t1.Sub(t0)), append(hashed, t2.Sub(t1)), append(signed, time.Since(t2))
	}
	f, h, k := median(full), median(hashed), median(signed)
	b.ReportMetric(float64(f), "full-ns")
	b.ReportMetric(float64(h), "hash-ns")
	b.ReportMetric(float64(k), "key-ns")
	b.ReportMetric(100*float64(f-h-k)/float64(h+k), "overhead-%")
	b.ReportMetric(100*float64(f-k)/float64(k), "beside-key-%")
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

func hashOf(key crypto.Signer) crypto.Hash {
	if _, ok := key.Public().(interface{ Size() int }); ok { // *rsa.PublicKey
		return crypto.SHA256
	}
	return 0
}

func signMsgauth(tb testing.TB, key crypto.Signer, raw []byte) string {
	s, err := msgauth.NewSigner(&msgauth.SignOptions{
		Domain: "example.com", Selector: "s", Signer: key,
		HeaderCanonicalization: msgauth.CanonicalizationRelaxed, BodyCanonicalization: msgauth.CanonicalizationRelaxed,
		HeaderKeys: []string{
			"From", "From", "Subject", "Subject", "Date", "Date", "To", "To", "List-Unsubscribe", "List-Unsubscribe-Post",
			"Message-ID", "Message-ID", "MIME-Version", "Content-Type", "Content-Transfer-Encoding",
		},
	})
	if err != nil {
		tb.Fatal(err)
	}
	if _, err = io.Copy(s, bytes.NewReader(raw)); err == nil {
		err = s.Close()
	}
	if err != nil {
		tb.Fatal(err)
	}
	return s.Signature()
}
