// A program with containerd's client, as people begin: pull with unpack, a container with a snapshot and a spec of the
// image, a task with our stdio, wait, start, three seconds, SIGTERM, the status; all of it removed.
// CLIENT and PACKAGES are where the client's packages are in one of its major versions.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"syscall"
	"time"

	containerd "CLIENT"
	"PACKAGES/cio"
	"PACKAGES/oci"
	"PACKAGES/namespaces"
)

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

func run(address, ref string) error {
	client, err := containerd.New(address)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx := namespaces.WithNamespace(context.Background(), "example")
	image, err := client.Pull(ctx, ref, containerd.WithPullUnpack)
	if err != nil {
		return err
	}
	container, err := client.NewContainer(ctx, "redis-server",
		containerd.WithImage(image),
		containerd.WithNewSnapshot("redis-server-snapshot", image),
		containerd.WithNewSpec(oci.WithImageConfig(image)))
	if err != nil {
		return err
	}
	defer container.Delete(ctx, containerd.WithSnapshotCleanup)
	task, err := container.NewTask(ctx, cio.NewCreator(cio.WithStdio))
	if err != nil {
		return err
	}
	defer task.Delete(ctx)
	exited, err := task.Wait(ctx)
	if err != nil {
		return err
	}
	if err := task.Start(ctx); err != nil {
		return err
	}
	time.Sleep(3 * time.Second)
	if err := task.Kill(ctx, syscall.SIGTERM); err != nil {
		return err
	}
	status := <-exited
	code, _, err := status.Result()
	if err != nil {
		return err
	}
	fmt.Printf("redis-server exited with status: %d\n", code)
	return nil
}
