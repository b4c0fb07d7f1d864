package sshdir

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"
)

// MakeKey makes a pair of keys of its own for a machine, unless the file has one,
// and returns the public key as a line for authorized_keys. Made is false for one
// that was there.
func MakeKey(file, comment string) (public string, made bool, err error) {
	text, err := ReadKey(file)
	if errors.Is(err, fs.ErrNotExist) {
		made = true
		text, err = makeKey(file, comment)
	}
	if err != nil {
		return "", false, err
	}
	signer, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return "", false, err
	}
	public = string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	if comment != "" {
		public += " " + comment
	}
	return public, made, nil
}

func makeKey(file, comment string) ([]byte, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, comment)
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(block)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(text)
	return text, errors.Join(err, f.Sync(), f.Close())
}
