// Puts a file into DES and reads it back: go run . 127.0.0.1:7420
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	desv1 "example.org/des/desv1"
)

func main() {
	connection, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	files := desv1.NewFileServiceClient(connection)

	// A small file is one message. The request id makes a repeat of the same put harmless.
	put, err := files.PutFile(ctx)
	if err != nil {
		log.Fatal(err)
	}
	err = put.Send(&desv1.PutFileRequest{
		Target: &desv1.PutFileRequest_Spec{Spec: &desv1.FileSpec{
			ContentType: "text/plain",
			RequestId:   "4f9d1a52-7a0e-4c35-9a44-5d3b8f0e6c21",
		}},
		Chunk:  &desv1.DataChunk{Data: []byte("hello from Go")},
		Finish: true,
	})
	if err != nil && err != io.EOF {
		log.Fatal(err)
	}
	stored, err := put.CloseAndRecv()
	if err != nil {
		log.Fatal(err)
	}

	get, err := files.GetFile(ctx, &desv1.GetFileRequest{Name: stored.GetFile().GetName()})
	if err != nil {
		log.Fatal(err)
	}
	var content []byte
	for {
		part, err := get.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		content = append(content, part.GetChunk().GetData()...)
	}
	fmt.Println(stored.GetFile().GetName(), string(content))
}
