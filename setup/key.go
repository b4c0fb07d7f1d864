package setup

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"

	"golang.org/x/crypto/ssh"
)

// newKey makes a key pair for SSH: the private key in OpenSSH's own form, without a
// passphrase, for nobody is there to type one; the public key as a line of
// authorized_keys.
func newKey(comment string) (private, public []byte, err error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	block, err := ssh.MarshalPrivateKey(priv, comment)
	if err != nil {
		return nil, nil, err
	}
	key, err := ssh.NewPublicKey(pub)
	if err != nil {
		return nil, nil, err
	}
	line := ssh.MarshalAuthorizedKey(key)
	return pem.EncodeToMemory(block), fmt.Appendf(nil, "%s %s\n", line[:len(line)-1], comment), nil
}
