package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// maxPasswordFile is above every password that the service takes.
const maxPasswordFile = 4 << 10

// readPassword takes a password from a file or standard input, without the
// line break that editors add. Spaces are part of it.
func readPassword(env *environment, file string) (string, error) {
	in := env.In
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxPasswordFile+1))
	if err != nil {
		return "", err
	}
	password := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	switch {
	case len(data) > maxPasswordFile:
		return "", fmt.Errorf("%s is too long for a password", file)
	case password == "":
		return "", fmt.Errorf("%s is empty", file)
	case strings.ContainsAny(password, "\r\n"):
		return "", fmt.Errorf("%s has more than one line", file)
	}
	return password, nil
}

// readHidden reads one line from a terminal that does not show it. It reads
// byte by byte: what follows the line belongs to whoever reads next.
func readHidden(in io.Reader) (string, error) {
	file, ok := in.(*os.File)
	if !ok {
		return "", errors.New("not a terminal")
	}
	restore, err := hideInput(file)
	if err != nil {
		return "", fmt.Errorf("the terminal cannot hide what is typed, so use --password-file: %w", err)
	}
	defer restore()
	var line bytes.Buffer
	var one [1]byte
	for line.Len() <= maxPasswordFile {
		n, err := file.Read(one[:])
		if n == 1 && one[0] == '\n' || errors.Is(err, io.EOF) {
			return strings.TrimSuffix(line.String(), "\r"), nil
		}
		if err != nil {
			return "", err
		}
		line.Write(one[:n])
	}
	return "", errors.New("the password is too long")
}

// isTerminal says whether a person sits at the other end.
func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && isTerminalFile(file)
}
