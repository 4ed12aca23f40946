import java.net.HttpURLConnection;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.channels.SocketChannel;

/** Client HOW HOST PORT: connects, and waits for the first byte. */
class Client {
    public static void main(String[] arguments) throws Exception {
        String host = arguments[1];
        int port = Integer.parseInt(arguments[2]);
        URI uri = new URI("http", null, host, port, "/", null, null);
        switch (arguments[0]) {
            case "socket" -> new Socket(host, port).getInputStream().read();
            case "channel" -> SocketChannel.open(new InetSocketAddress(host, port)).read(ByteBuffer.allocate(1));
            case "url" -> ((HttpURLConnection) uri.toURL().openConnection()).getResponseCode();
            default -> HttpClient.newHttpClient()
                .send(HttpRequest.newBuilder(uri).build(), HttpResponse.BodyHandlers.ofString());
        }
    }
}
