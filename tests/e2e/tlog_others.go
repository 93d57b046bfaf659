// tlog_others.go - the public log checked by the Go project's own note and tlog packages (golang.org/x/mod/sumdb), as
// Debian ships them: the checkpoint's signatures, every tile by the root, inclusion of every header, consistency with
// every smaller tree, and a .tlog-proof file.
//
//	tlog_others URL LOG-KEY-HEX PROOF-FILE [WITNESS-NAME WITNESS-KEY-HEX]...
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func must(err error, what string) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
		os.Exit(1)
	}
}

func refused(err error, what string) {
	if err == nil {
		fmt.Fprintf(os.Stderr, "%s was accepted\n", what)
		os.Exit(1)
	}
}

// witness is a key of type 4 (cosignature/v1), which the package leaves to others.
type witness struct {
	name string
	key  ed25519.PublicKey
}

func (w witness) Name() string { return w.name }
func (w witness) KeyHash() uint32 {
	hash := sha256.Sum256(append([]byte(w.name+"\n\x04"), w.key...))
	return binary.BigEndian.Uint32(hash[:4])
}
func (w witness) Verify(text, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	head := fmt.Sprintf("cosignature/v1\ntime %d\n", binary.BigEndian.Uint64(sig))
	return ed25519.Verify(w.key, append([]byte(head), text...), sig[8:])
}

func get(url string) []byte {
	reply, err := http.Get(url)
	must(err, url)
	defer reply.Body.Close()
	data, err := io.ReadAll(reply.Body)
	must(err, url)
	if reply.StatusCode != 200 {
		must(fmt.Errorf("status %d", reply.StatusCode), url)
	}
	return data
}

// tiles reads them as C2SP names them: without the height, which is 8.
type tiles struct{ url string }

func (t tiles) Height() int                        { return 8 }
func (t tiles) SaveTiles(_ []tlog.Tile, _ [][]byte) {}
func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	out := make([][]byte, len(wanted))
	for i, tile := range wanted {
		out[i] = get(t.url + "/" + strings.Replace(tile.Path(), "tile/8/", "tile/", 1))
	}
	return out, nil
}

func tree(text string, origin string) tlog.Tree {
	lines := strings.Split(text, "\n")
	if len(lines) < 3 || lines[0] != origin {
		must(fmt.Errorf("%q", text), "checkpoint")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	must(err, "size")
	root, err := tlog.ParseHash(lines[2])
	must(err, "root")
	return tlog.Tree{N: size, Hash: root}
}

func key(text string) ed25519.PublicKey {
	raw, err := hex.DecodeString(text)
	must(err, "key")
	return ed25519.PublicKey(raw)
}

func main() {
	url, proofFile := os.Args[1], os.Args[3]
	checkpoint := get(url + "/checkpoint")
	origin, _, _ := strings.Cut(string(checkpoint), "\n")
	vkey, err := note.NewEd25519VerifierKey(origin, key(os.Args[2]))
	must(err, "log key")
	log, err := note.NewVerifier(vkey)
	must(err, "log key")
	verifiers := []note.Verifier{log}
	for i := 4; i+1 < len(os.Args); i += 2 {
		verifiers = append(verifiers, witness{os.Args[i], key(os.Args[i+1])})
	}
	opened, err := note.Open(checkpoint, note.VerifierList(verifiers...))
	must(err, "checkpoint")
	_, err = note.Open(bytes.Replace(checkpoint, []byte("\n"), []byte("\n1"), 1), note.VerifierList(verifiers...))
	refused(err, "a changed checkpoint")

	now := tree(opened.Text, origin)
	reader := tlog.TileHashReader(now, tiles{url})
	leaves := make([]tlog.Hash, 0, now.N)
	for n := int64(0); n < now.N; n += 256 {
		path := strings.Replace(tlog.Tile{H: 8, L: -1, N: n / 256, W: int(min64(256, now.N-n))}.Path(), "tile/8/data", "tile/entries", 1)
		for bundle := get(url + "/" + path); len(bundle) > 0; {
			size := int(binary.BigEndian.Uint16(bundle))
			leaves = append(leaves, tlog.RecordHash(bundle[2:2+size]))
			bundle = bundle[2+size:]
		}
	}
	for n := int64(0); n < now.N; n++ {
		proof, err := tlog.ProveRecord(now.N, n, reader)
		must(err, "inclusion out of tiles")
		must(tlog.CheckRecord(proof, now.N, now.Hash, n, leaves[n]), "inclusion")
	}
	for n := int64(1); n < now.N; n++ {
		old, err := tlog.TreeHash(n, reader)
		must(err, "smaller tree")
		proof, err := tlog.ProveTree(now.N, n, reader)
		must(err, "consistency out of tiles")
		must(tlog.CheckTree(proof, now.N, now.Hash, n, old), "consistency")
	}

	file, err := os.ReadFile(proofFile)
	must(err, proofFile)
	head, rest, _ := strings.Cut(string(file), "\n\n")
	lines := strings.Split(head, "\n")[1:]
	if strings.HasPrefix(lines[0], "extra ") {
		lines = lines[1:]
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[0], "index "), 10, 64)
	must(err, "index")
	var path tlog.RecordProof
	for _, line := range lines[1:] {
		raw, err := base64.StdEncoding.DecodeString(line)
		must(err, "path")
		path = append(path, *(*tlog.Hash)(raw))
	}
	proved, err := note.Open([]byte(rest), note.VerifierList(verifiers...))
	must(err, "the proof's checkpoint")
	at := tree(proved.Text, origin)
	must(tlog.CheckRecord(path, at.N, at.Hash, index, leaves[index]), "the proof")
	refused(tlog.CheckRecord(path, at.N, at.Hash, index, leaves[(index+1)%now.N]), "the proof for another header")
	fmt.Printf("%d headers, %d signatures, proof of header %d\n", now.N, len(opened.Sigs), index)
}

func min64(a, b int64) int64 {
	if a < b {
		return a
	}
	return b
}
