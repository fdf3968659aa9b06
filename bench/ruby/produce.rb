# A busy producer: enqueues ARGV[0] jobs from ARGV[1] threads, spread over three queues. Tags are 0, 1, 2, ...
# Four fifths come in bulk, so that no worker waits for work; the others one by one, while it is being done.
require_relative "../../tests/system/sidekiq/jobs"

jobs, threads = Integer(ARGV[0]), Integer(ARGV[1])
Sidekiq.configure_client { |config| config.redis = {size: threads} }
kinds = [CriticalJob, PlainJob, LowJob]
payload = "x" * 100
bulk = jobs * 4 / 5

(0...bulk).each_slice(500).with_index do |numbers, slice|
  Sidekiq::Client.push_bulk("class" => kinds[slice % 3], "args" => numbers.map { |number| [number.to_s, payload] })
end
makers = threads.times.map do |first|
  Thread.new do
    (bulk + first).step(jobs - 1, threads) { |number| kinds[number % 3].perform_async(number.to_s, payload) }
  end
end
makers.each(&:join)
