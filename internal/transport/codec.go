package transport

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// verbatim is gRPC's codec for protobuf, but sends []byte as it is: a message that is marshalled already. Nobody may change it
// afterwards, for gRPC may still send of it when the call has been given up.
var verbatim encoding.CodecV2 = codec{encoding.GetCodecV2(proto.Name)}

type codec struct{ encoding.CodecV2 }

func (c codec) Marshal(message any) (mem.BufferSlice, error) {
	if body, ok := message.([]byte); ok {
		return mem.BufferSlice{mem.SliceBuffer(body)}, nil
	}
	return c.CodecV2.Marshal(message)
}

// Name is none, so that the content type stays application/grpc.
func (codec) Name() string { return "" }
