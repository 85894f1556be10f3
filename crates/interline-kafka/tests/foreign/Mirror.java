import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Copies a topic with Apache Kafka's own client and default settings, and says what it saw: a line per record of
 * partition, offset, partition of the copy, key, value, and each header as NAME=VALUE, all bytes in hexadecimal.
 *
 * <p>java -cp 'lib/*' Mirror.java BROKERS FROM TO
 */
public final class Mirror {
  private static final HexFormat HEX = HexFormat.of();

  public static void main(String[] args) throws Exception {
    Map<String, Object> settings = Map.of("bootstrap.servers", args[0]);
    try (var consumer =
            new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        var producer =
            new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
      List<TopicPartition> partitions =
          consumer.partitionsFor(args[1]).stream()
              .map(info -> new TopicPartition(info.topic(), info.partition()))
              .toList();
      consumer.assign(partitions);
      consumer.seekToBeginning(partitions);
      Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
      while (ends.entrySet().stream().anyMatch(end -> consumer.position(end.getKey()) < end.getValue())) {
        for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofSeconds(1))) {
          var copy = new ProducerRecord<>(args[2], null, record.key(), record.value(), record.headers());
          System.out.println(line(record, producer.send(copy).get().partition()));
        }
      }
    }
  }

  private static String line(ConsumerRecord<byte[], byte[]> record, int copy) {
    var line = new StringBuilder();
    line.append(record.partition()).append('\t').append(record.offset()).append('\t').append(copy);
    line.append('\t').append(hex(record.key())).append('\t').append(hex(record.value()));
    for (Header header : record.headers()) {
      byte[] name = header.key().getBytes(StandardCharsets.UTF_8);
      line.append('\t').append(hex(name)).append('=').append(hex(header.value()));
    }
    return line.toString();
  }

  private static String hex(byte[] bytes) {
    return bytes == null ? "null" : HEX.formatHex(bytes);
  }
}
