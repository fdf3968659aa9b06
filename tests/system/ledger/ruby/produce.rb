# A producer: pushes jobs at a steady rate from some threads until SIGTERM, then ends with 0. What a push answers
# is in the ledger. A thread whose push failed goes on once somebody listens at the address again.
require "json"
require "socket"
require "uri"
require_relative "jobs"

threads, rate = Integer(ARGV[0]), Float(ARGV[1])
kinds = ARGV[2].split(",")
PLACE = URI(ENV.fetch("REDIS_URL"))
QUEUES = %w[critical default low].freeze
PAYLOAD = "x" * 100
$ending = false
Signal.trap("TERM") { $ending = true }
Sidekiq.configure_client { |config| config.redis = {size: threads} }

PUSHES = {
  "plain" => ->(queue) { Nap.set(queue: queue).perform_async(PAYLOAD) },
  "bulk" => ->(queue) { Sidekiq::Client.push_bulk("class" => Nap, "queue" => queue, "args" => [[PAYLOAD]] * 5) },
  "scheduled" => ->(queue) { Nap.set(queue: queue).perform_in(0.3 + rand, PAYLOAD) },
  "failing" => ->(queue) { FailsOnce.set(queue: queue).perform_async(PAYLOAD) }
}.freeze
# Of twenty pushes sixteen are plain; the others come in turn, as far as they are wanted.
TURN = ["bulk", "scheduled", "failing", "scheduled"].map { |kind| kinds.include?(kind) ? kind : "plain" }

def somebody_listens
  Socket.tcp(PLACE.host, PLACE.port, connect_timeout: 1) { true }
rescue SystemCallError
  false
end

def produce(first, threads, rate)
  began = Ledger.now
  (first..).step(threads) do |number|
    due = began + number / rate
    late = Ledger.now - due
    began += late if late > 0.5 # what was missed is not made up for
    sleep(-late) if late < 0
    break if $ending
    begin
      PUSHES[(number / threads % 5 == 4) ? TURN[number / threads / 5 % 4] : "plain"].call(QUEUES[number % 3])
    rescue Redis::BaseError, SystemCallError, Timeout::Error
      sleep 0.01 until $ending || somebody_listens
    end
  end
end

threads.times.map { |first| Thread.new { produce(first, threads, rate) } }.each(&:join)
