# A busy producer: enqueues ARGV[0] jobs one by one from ARGV[1] threads, spread over three queues. Tags are 0, 1, 2, ...
require_relative "../../tests/system/sidekiq/jobs"

jobs, threads = Integer(ARGV[0]), Integer(ARGV[1])
Sidekiq.configure_client { |config| config.redis = {size: threads} }
kinds = [CriticalJob, PlainJob, LowJob]
payload = "x" * 100

makers = threads.times.map do |first|
  Thread.new do
    first.step(jobs - 1, threads) { |number| kinds[number % 3].perform_async(number.to_s, payload) }
  end
end
makers.each(&:join)
