// The network between a window and its server, which a test can cut.
import { once } from "node:events";
import { connect, createServer } from "node:net";

/** Takes the server's place, under an address of its own, until it is cut. */
export class Cable {
  #connections = new Set();
  #whole = true;

  static async between(server) {
    const cable = new Cable();
    cable.log = () => server.log();
    cable.listener = createServer((near) => cable.#join(near, server.port)).listen(0, "127.0.0.1");
    await once(cable.listener, "listening");
    cable.url = `http://127.0.0.1:${cable.listener.address().port}`;
    return cable;
  }

  #join(near, port) {
    if (!this.#whole) return near.resetAndDestroy();
    const far = connect(port, "127.0.0.1");
    for (const [one, other] of [[near, far], [far, near]]) {
      this.#connections.add(one);
      one.on("error", () => {}).pipe(other);
      one.on("close", () => {
        other.destroy();
        this.#connections.delete(one);
      });
    }
  }

  /** Breaks all connections; new ones fail. */
  cut() {
    this.#whole = false;
    for (const connection of this.#connections) connection.destroy();
  }

  mend() {
    this.#whole = true;
  }

  close() {
    this.cut();
    this.listener.close();
  }
}
