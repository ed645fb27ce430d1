package awstest

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/aws/smithy-go/encoding/cbor"
)

// form is how a service writes its answers.
type form int

const (
	jsonForm form = iota
	queryForm
	ec2Form
	cborForm
	restForm
)

// read finds out what is asked, and in which form.
func read(call *Call, request *http.Request, body []byte) form {
	if target := request.Header.Get("X-Amz-Target"); target != "" {
		call.Action = target[strings.LastIndex(target, ".")+1:]
		_ = json.Unmarshal(body, &call.Input)
		return jsonForm
	}
	if request.Header.Get("Smithy-Protocol") == "rpc-v2-cbor" {
		call.Action = path.Base(request.URL.Path)
		if value, err := cbor.Decode(body); err == nil {
			if plain, is := fromCBOR(value).(map[string]any); is {
				call.Input = plain
			}
		}
		return cborForm
	}
	if name, is := rest[call.Service]; is {
		_ = json.Unmarshal(body, &call.Input)
		if call.Input == nil {
			call.Input = map[string]any{}
		}
		call.Action = name(request.Method, request.URL.Path, request.URL.Query(), call.Input)
		return restForm
	}
	if request.Method == http.MethodGet { // of a service of this kind that has no file: it has nothing
		call.Action = "Get" + strings.ReplaceAll(request.URL.Path, "/", ".")
		return restForm
	}
	values, _ := url.ParseQuery(string(body))
	for name := range values {
		call.Input[name] = values.Get(name)
	}
	call.Action = values.Get("Action")
	if call.Service == "ec2" {
		return ec2Form
	}
	return queryForm
}

func (f form) write(response http.ResponseWriter, call Call, answer any) {
	switch f {
	case queryForm, ec2Form:
		response.Header().Set("Content-Type", "text/xml")
		var text strings.Builder
		fmt.Fprintf(&text, "<%sResponse>", call.Action)
		if f == queryForm {
			fmt.Fprintf(&text, "<%sResult>", call.Action)
		}
		writeXML(&text, answer, map[form]string{queryForm: "member", ec2Form: "item"}[f])
		if f == queryForm {
			fmt.Fprintf(&text, "</%sResult>", call.Action)
		}
		fmt.Fprintf(&text, "</%sResponse>", call.Action)
		_, _ = io.WriteString(response, text.String())
	case cborForm:
		response.Header().Set("Content-Type", "application/cbor")
		response.Header().Set("Smithy-Protocol", "rpc-v2-cbor")
		_, _ = response.Write(cbor.Encode(toCBOR(answer)))
	default:
		response.Header().Set("Content-Type", map[form]string{jsonForm: "application/x-amz-json-1.1", restForm: "application/json"}[f])
		_ = json.NewEncoder(response).Encode(plainTimes(answer))
	}
}

func (f form) fail(response http.ResponseWriter, fault *Fault) {
	switch f {
	case queryForm:
		response.Header().Set("Content-Type", "text/xml")
		response.WriteHeader(fault.Status)
		fmt.Fprintf(response, "<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error><RequestId>r</RequestId></ErrorResponse>", fault.Code, escape(fault.Message))
	case ec2Form:
		response.Header().Set("Content-Type", "text/xml")
		response.WriteHeader(fault.Status)
		fmt.Fprintf(response, "<Response><Errors><Error><Code>%s</Code><Message>%s</Message></Error></Errors><RequestID>r</RequestID></Response>", fault.Code, escape(fault.Message))
	case cborForm:
		response.Header().Set("Content-Type", "application/cbor")
		response.Header().Set("Smithy-Protocol", "rpc-v2-cbor")
		response.WriteHeader(fault.Status)
		_, _ = response.Write(cbor.Encode(cbor.Map{"__type": cbor.String("x#" + fault.Code), "message": cbor.String(fault.Message)}))
	default:
		response.Header().Set("Content-Type", "application/x-amz-json-1.1")
		response.Header().Set("X-Amzn-Errortype", fault.Code)
		response.WriteHeader(fault.Status)
		_ = json.NewEncoder(response).Encode(map[string]string{"__type": fault.Code, "message": fault.Message, "Message": fault.Message})
	}
}

func escape(text string) string {
	var out strings.Builder
	_ = xml.EscapeText(&out, []byte(text))
	return out.String()
}

// object is an answer, or a part of one.
type object = map[string]any

func writeXML(to *strings.Builder, value any, item string) {
	switch value := value.(type) {
	case object:
		for _, name := range slices.Sorted(maps.Keys(value)) {
			fmt.Fprintf(to, "<%s>", name)
			writeXML(to, value[name], item)
			fmt.Fprintf(to, "</%s>", name)
		}
	case []object:
		for _, each := range value {
			writeXML(to, []any{each}, item)
		}
	case []any:
		for _, each := range value {
			fmt.Fprintf(to, "<%s>", item)
			writeXML(to, each, item)
			fmt.Fprintf(to, "</%s>", item)
		}
	case time.Time:
		to.WriteString(value.UTC().Format(time.RFC3339Nano))
	case nil:
	default:
		to.WriteString(escape(fmt.Sprint(value)))
	}
}

// plainTimes writes times as these protocols do: as seconds.
func plainTimes(value any) any {
	switch value := value.(type) {
	case object:
		made := object{}
		for name, each := range value {
			made[name] = plainTimes(each)
		}
		return made
	case []object:
		made := make([]any, len(value))
		for i, each := range value {
			made[i] = plainTimes(each)
		}
		return made
	case []any:
		made := make([]any, len(value))
		for i, each := range value {
			made[i] = plainTimes(each)
		}
		return made
	case time.Time:
		return float64(value.UnixMilli()) / 1000
	}
	return value
}

func toCBOR(value any) cbor.Value {
	switch value := value.(type) {
	case object:
		made := cbor.Map{}
		for name, each := range value {
			made[name] = toCBOR(each)
		}
		return made
	case []object:
		made := cbor.List{}
		for _, each := range value {
			made = append(made, toCBOR(each))
		}
		return made
	case []any:
		made := cbor.List{}
		for _, each := range value {
			made = append(made, toCBOR(each))
		}
		return made
	case string:
		return cbor.String(value)
	case bool:
		return cbor.Bool(value)
	case float64:
		return cbor.Float64(value)
	case int:
		return cbor.Uint(value) //nolint:gosec // none is negative
	case time.Time:
		return &cbor.Tag{ID: 1, Value: cbor.Float64(float64(value.UnixMilli()) / 1000)}
	}
	return &cbor.Nil{}
}

func fromCBOR(value cbor.Value) any {
	switch value := value.(type) {
	case cbor.Map:
		made := object{}
		for name, each := range value {
			made[name] = fromCBOR(each)
		}
		return made
	case cbor.List:
		made := []any{}
		for _, each := range value {
			made = append(made, fromCBOR(each))
		}
		return made
	case cbor.String:
		return string(value)
	case cbor.Bool:
		return bool(value)
	case cbor.Uint:
		return float64(value)
	case cbor.Float64:
		return float64(value)
	}
	return nil
}
