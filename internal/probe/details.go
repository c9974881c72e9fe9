package probe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// parse reads the details of a check into options, a pointer to a struct with JSON names. Details are the target alone,
// which goes to target, a field of options; or, where there is more to say, a JSON object:
//
//	https://shop.example/
//	{"target": "https://shop.example/", "contains": "in stock"}
//
// A key that options does not have is an error, so that a word that is misspelt is not a check that passes. What is
// wrong is told without the details, which may hold a password that does not belong there.
func parse(details string, target *string, options any) error {
	details = strings.TrimSpace(details)
	if !strings.HasPrefix(details, "{") {
		*target = details
		return nil
	}
	decoder := json.NewDecoder(strings.NewReader(details))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(options); err != nil {
		return fmt.Errorf("the check's details are not what this check takes: %w", plainly(err, details))
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("the check's details go on after the JSON object, at character %d: write one object", decoder.InputOffset()+1)
	}
	*target = strings.TrimSpace(*target)
	return nil
}

// plainly says what is wrong with JSON without the words of Go's types.
func plainly(err error, text string) error {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("character %d: %s", syntax.Offset, strings.TrimPrefix(syntax.Error(), "json: "))
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		field := strings.TrimPrefix(wrong.Field, "databaseOptions.") // a word of Go's, which is in no check's details
		return fmt.Errorf("%s is a %s: %s", field, wrong.Value, wants(wrong))
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("character %d: the JSON ends too soon", len(text))
	}
	return errors.New(strings.TrimPrefix(err.Error(), "json: "))
}

func wants(wrong *json.UnmarshalTypeError) string {
	switch kind := wrong.Type.Kind().String(); {
	case wrong.Type.String() == "probe.duration":
		return `write a duration in quotes, such as "5s"`
	case kind == "string":
		return "write text in quotes"
	case kind == "bool":
		return "write true or false"
	case kind == "slice":
		return "write a list"
	case kind == "struct" || kind == "map":
		return "write an object"
	}
	return "write a number"
}

// duration is one in details: "1.5s".
type duration time.Duration

// UnmarshalJSON is for encoding/json.
func (d *duration) UnmarshalJSON(text []byte) error {
	var s string
	if !bytes.HasPrefix(text, []byte(`"`)) || json.Unmarshal(text, &s) != nil {
		return fmt.Errorf(`%s is no duration: write one in quotes, such as "5s"`, text)
	}
	parsed, err := time.ParseDuration(s)
	if err != nil || parsed < 0 {
		return fmt.Errorf(`%q is no duration: write one such as "5s" or "100ms"`, s)
	}
	*d = duration(parsed)
	return nil
}
