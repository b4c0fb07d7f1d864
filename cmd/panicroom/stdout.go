package main

import "io"

// answerWriter is standard output, and remembers that not all of the answer went
// there: a full disk is not to end in "done".
type answerWriter struct {
	io.Writer
	err error
}

func (w *answerWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if err != nil && w.err == nil {
		w.err = err
	}
	return n, err
}
