// A testee for `rpcproto conform --room`, in Go with LiveKit's server SDK.
//
//	cd examples/testees/go && go build -o testee .
//	rpcproto conform --room --exec examples/testees/go/testee
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	lksdk "github.com/livekit/server-sdk-go/v2"
	"github.com/livekit/server-sdk-go/v2/e2ee"
)

type asked struct {
	Text, Message, Data string
	Code                uint32
	Times               int
}

// The SDK runs a handler before it reads the next packet. So a handler that waits, or makes a call, keeps
// everything else waiting, the answer to its own call included: conform.wait and conform.call are left out.
func methods() map[string]func(payload string, it asked) (string, error) {
	var counting sync.Mutex
	counts := map[string]int{}
	count := func(payload string, more int) int {
		counting.Lock()
		defer counting.Unlock()
		counts[payload] += more
		return counts[payload]
	}
	return map[string]func(payload string, it asked) (string, error){
		"echo": func(payload string, _ asked) (string, error) { count(payload, 1); return payload, nil },
		"size": func(payload string, _ asked) (string, error) {
			size, err := strconv.Atoi(payload)
			return strings.Repeat("x", size), err
		},
		"text": func(_ string, it asked) (string, error) { return strings.Repeat(it.Text, it.Times), nil },
		"fail": func(_ string, it asked) (string, error) {
			return "", &lksdk.RpcError{Code: lksdk.RpcErrorCode(it.Code), Message: it.Message, Data: &it.Data}
		},
		"crash": func(payload string, _ asked) (string, error) { return "", errors.New(payload) },
		"count": func(payload string, _ asked) (string, error) { return strconv.Itoa(count(payload, 0)), nil },
	}
}

func main() {
	gone := make(chan struct{})
	room := lksdk.NewRoom(&lksdk.RoomCallback{OnDisconnected: func() { close(gone) }})
	for name, method := range methods() {
		must(room.RegisterRpcMethod("conform."+name, func(data lksdk.RpcInvocationData) (string, error) {
			var it asked
			_ = json.Unmarshal([]byte(data.Payload), &it) // some payloads are texts
			return method(data.Payload, it)
		}))
	}
	options := []lksdk.ConnectOption{lksdk.WithAutoSubscribe(false)}
	if passphrase := os.Getenv("CONFORM_E2EE_PASSPHRASE"); passphrase != "" {
		provider := e2ee.NewExternalKeyProvider()
		must(provider.SetKeyFromPassphrase(passphrase, 0))
		options = append(options, lksdk.WithDataEncryption(&lksdk.EncryptionOptions{KeyProvider: provider}))
	}
	must(room.JoinWithToken(os.Getenv("LIVEKIT_URL"), os.Getenv("LIVEKIT_TOKEN"), options...))
	<-gone
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
