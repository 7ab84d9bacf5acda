// Verifies an access log with an implementation that shares no code with Concordat: Go's golang.org/x/mod/sumdb, as Debian packages it.
//
//	verify LOG [EARLIER]
//
// LOG is a log's folder, EARLIER a signed checkpoint of it. Checked are: the signature of `checkpoint` by the key in `log.vkey`
// (sumdb/note), the tree over all entries of all bundles and its root (sumdb/tlog), an inclusion proof of the last entry of each bundle
// and a consistency proof from EARLIER, both from the tiles on disk. Prints what it verified; exits 1 at the first fault.
package main

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	height = 8
	width  = 1 << height
)

func main() {
	if len(os.Args) < 2 || len(os.Args) > 3 {
		fmt.Fprintln(os.Stderr, "usage: verify LOG [EARLIER]")
		os.Exit(2)
	}
	said, err := verify(os.Args[1], os.Args[2:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(said)
}

func verify(log string, earlier []string) (string, error) {
	key, err := os.ReadFile(filepath.Join(log, "log.vkey"))
	if err != nil {
		return "", err
	}
	verifier, err := note.NewVerifier(strings.TrimSuffix(string(key), "\n"))
	if err != nil {
		return "", err
	}
	tree, err := checkpoint(filepath.Join(log, "checkpoint"), verifier)
	if err != nil {
		return "", err
	}
	if tree.N == 0 {
		return "", errors.New("the log has no entries")
	}
	leaves, err := grow(log, tree)
	if err != nil {
		return "", err
	}
	// The proofs come from the tiles, not from what was just computed.
	hashes := tlog.TileHashReader(tree, tiles{log})
	for start := int64(0); start < tree.N; start += width {
		index := start + width - 1
		if index >= tree.N {
			index = tree.N - 1
		}
		proof, err := tlog.ProveRecord(tree.N, index, hashes)
		if err != nil {
			return "", err
		}
		if err := tlog.CheckRecord(proof, tree.N, tree.Hash, index, leaves[index]); err != nil {
			return "", fmt.Errorf("entry %d: %w", index+1, err)
		}
	}
	said := fmt.Sprintf("golang.org/x/mod/sumdb: %s: %d entries", verifier.Name(), tree.N)
	for _, file := range earlier {
		before, err := checkpoint(file, verifier)
		if err != nil {
			return "", err
		}
		if before.N < 1 || before.N > tree.N {
			return "", fmt.Errorf("%s is of %d entries, and the log has %d", file, before.N, tree.N)
		}
		proof, err := tlog.ProveTree(tree.N, before.N, hashes)
		if err != nil {
			return "", err
		}
		if err := tlog.CheckTree(proof, tree.N, tree.Hash, before.N, before.Hash); err != nil {
			return "", fmt.Errorf("%s is no beginning of the log: %w", file, err)
		}
		said += fmt.Sprintf(", consistent with %d", before.N)
	}
	return said, nil
}

// checkpoint opens a signed checkpoint: origin, size and root.
func checkpoint(file string, verifier note.Verifier) (tlog.Tree, error) {
	var tree tlog.Tree
	signed, err := os.ReadFile(file)
	if err != nil {
		return tree, err
	}
	opened, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return tree, fmt.Errorf("%s: %w", file, err)
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() || lines[3] != "" {
		return tree, fmt.Errorf("%s is not a checkpoint of %s", file, verifier.Name())
	}
	tree.N, err = strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tree, err
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return tree, fmt.Errorf("%s has no root", file)
	}
	copy(tree.Hash[:], root)
	return tree, nil
}

// grow builds the tree from all entries and returns their hashes.
func grow(log string, tree tlog.Tree) ([]tlog.Hash, error) {
	var stored, leaves []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		found := make([]tlog.Hash, len(indexes))
		for at, index := range indexes {
			if index >= int64(len(stored)) {
				return nil, fmt.Errorf("hash %d is not stored", index)
			}
			found[at] = stored[index]
		}
		return found, nil
	})
	for start := int64(0); start < tree.N; start += width {
		count := tree.N - start
		if count > width {
			count = width
		}
		entries, err := bundle(log, start/width, count)
		if err != nil {
			return nil, err
		}
		for at, entry := range entries {
			more, err := tlog.StoredHashes(start+int64(at), entry, reader)
			if err != nil {
				return nil, err
			}
			stored = append(stored, more...)
			leaves = append(leaves, tlog.RecordHash(entry))
		}
	}
	root, err := tlog.TreeHash(tree.N, reader)
	if err != nil {
		return nil, err
	}
	if root != tree.Hash {
		return nil, errors.New("the entries do not lead to the root that the checkpoint signs")
	}
	return leaves, nil
}

// bundle reads the entries of a bundle, each after its length in two bytes.
func bundle(log string, index, count int64) ([][]byte, error) {
	rest, err := atLeast(log, "entries", index, count)
	if err != nil {
		return nil, err
	}
	var entries [][]byte
	for len(rest) > 0 {
		if len(rest) < 2 || len(rest)-2 < int(binary.BigEndian.Uint16(rest)) {
			return nil, fmt.Errorf("bundle %d was cut", index)
		}
		end := 2 + int(binary.BigEndian.Uint16(rest))
		entries, rest = append(entries, rest[2:end]), rest[end:]
	}
	if int64(len(entries)) < count {
		return nil, fmt.Errorf("bundle %d has %d entries, not %d", index, len(entries), count)
	}
	return entries[:count], nil
}

// tiles reads tiles by the names of c2sp.org/tlog-tiles, which has no height in them.
type tiles struct{ log string }

func (tiles) Height() int { return height }

func (of tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	found := make([][]byte, len(wanted))
	for at, tile := range wanted {
		read, err := atLeast(of.log, strconv.Itoa(tile.L), tile.N, int64(tile.W))
		if err != nil {
			return nil, err
		}
		if len(read) < tile.W*tlog.HashSize {
			return nil, fmt.Errorf("tile %d of level %d was cut", tile.N, tile.L)
		}
		found[at] = read[:tile.W*tlog.HashSize]
	}
	return found, nil
}

func (tiles) SaveTiles([]tlog.Tile, [][]byte) {}

// atLeast reads a file of that many entries or hashes, or where it is gone a wider one, which begins alike.
func atLeast(log, kind string, index, count int64) ([]byte, error) {
	for wide := count; wide < width; wide++ {
		read, err := os.ReadFile(filepath.Join(log, name(kind, index, wide)))
		if !errors.Is(err, fs.ErrNotExist) {
			return read, err
		}
	}
	return os.ReadFile(filepath.Join(log, name(kind, index, width)))
}

// name is a tile's, as tile/0/x001/234, or of a partial one tile/0/x001/234.p/5.
func name(kind string, index, count int64) string {
	digits := fmt.Sprintf("%03d", index%1000)
	for index /= 1000; index > 0; index /= 1000 {
		digits = fmt.Sprintf("x%03d/%s", index%1000, digits)
	}
	if count < width {
		digits += fmt.Sprintf(".p/%d", count)
	}
	return "tile/" + kind + "/" + digits
}
