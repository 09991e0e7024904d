package main

import "testing"

func TestValidationIsSeenInTheADBit(t *testing.T) {
	server := responder(t, func(msg []byte) { // as of a server that validates, says NOERROR, and has an answer
		msg[2], msg[3], msg[7] = msg[2]|0x80, 0x20, 1
	})
	if err := validates(server, "signed.example.", true); err != nil {
		t.Error(err)
	}
	if err := validates(server, "unsigned.example.", false); err == nil {
		t.Error("an unsigned name may be called authentic")
	}
	if err := validates(loopback(t, 2), "broken.example.", true); err == nil {
		t.Error("SERVFAIL is no error")
	}
}
